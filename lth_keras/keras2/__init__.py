"""Tickets in tf_keras (Keras 2) models, on tensorflow-model-optimization's wrappers.

    model -> masking/wrap -> train -> search: score, prune, rewind -> (again) -> ticket

Read in this order:

1. `masking`: a layer's wrapper that holds the mask and keeps pruned weights at zero; which layers
   get one, under which names; how wrapped models are saved, loaded and stripped.
2. `rewinding`: what survivors go back to: weights, optimizer slots, step counts, batch-norm
   statistics, as a `Snapshot` of the model at step k.
3. `random_generators`: what a model's layers draw from, and which of them cannot be seeded.
4. `search`: `lth.Search`, level after level of one model, driven by a training loop of your own.
5. `apply_ticket`: `lth.Ticket.apply` for models of tf_keras.
6. `fit`: the same driven by Keras: `lth.LotteryTicketCallback` in one `model.fit`, kept in a
   workdir so that it survives its process.
7. `loss_gradient`: the mean gradient of a model's loss, for criteria that score by it.

Imports `core` and `files`; never `experiments`, nor the engine of another Keras.
"""
