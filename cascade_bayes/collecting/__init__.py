"""From questions, or from logs of an evaluation, to the table that everything else begins with.

`run` checks what a user gives, and `job` runs it: Inspect, the evaluation framework of the UK AI Security
Institute, makes the calls. `confidences` and `tokens` say how sure a model is, `ledger` what it costs.
`inspect_logs`, `lm_eval` and `openai_chat` read what other programs have written. What needs the extra
`collect` is imported when it is used.
"""

from cascade_bayes.collecting.inspect_logs import read_inspect
from cascade_bayes.collecting.job import Collected
from cascade_bayes.collecting.lm_eval import read_lm_eval
from cascade_bayes.collecting.openai_chat import read_openai
from cascade_bayes.collecting.run import collect

__all__ = ["Collected", "collect", "read_inspect", "read_lm_eval", "read_openai"]
