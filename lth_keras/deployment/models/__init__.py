"""What an export asks of a model, answered alike for tf_keras and for Keras 3 on any backend.

    model -> kinds: of which Keras it is -> a ModelKind, which knows that Keras

Read in this order:

1. `model_kind`: the questions: what a model takes and returns, predicts, holds; a copy of it;
   `optimizer_variables`: what its optimizer keeps.
2. `tf_keras_models`, `keras3_models`: the answers, each for one Keras.
3. `gather_layer`: a layer that selects features, of tf_keras.
4. `kinds`: finds the kind of a model by the model's class.

A module of this package that knows one Keras is imported when a model of it is given, so that
whoever has one Keras needs no other.
"""
