"""Running a policy in a service: calls of models, decisions, and the log of both.

`router` asks the models and decides; `log` appends lines to a file that `cascade_bayes.read_table` reads;
`openai` makes callables of any OpenAI-compatible client. Nothing here needs JAX.
"""
