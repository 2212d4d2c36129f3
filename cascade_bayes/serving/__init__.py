"""Running a policy in a service: calls of models, decisions, and the log of both.

`router` asks the models and decides, `confidences` reads what they say of themselves, `routed` is what comes
of a query; `log` appends lines to a file that `cascade_bayes.read_table` reads;
`openai` makes callables of any OpenAI-compatible client. Nothing here needs JAX.
"""
