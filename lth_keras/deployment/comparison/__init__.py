"""What a file is compared with: Keras' outputs by name, the true targets, and a measure of both.

1. `signature`: the inputs and outputs of a model by name, since runtimes may reorder them.
2. `held_out`: the examples and targets that a user gives, checked against the model.
3. `measures`: how well outputs fit targets, chosen by the loss that the model is compiled with.
4. `output_row`: what came of it for one output of a file in one runtime.

To add a measure, write a function from a loss' settings to a `Measure` and decorate it with
`measures.register`.
"""
