"""Runs a whole search in one `model.fit`, and resumes it after its process was killed.

Keras calls the hooks of `callback`, each of which calls `fit_search`.  The search has no loop of
its own: rounds begin and end within these hooks.

Read in this order:

1. `callback`: `lth.LotteryTicketCallback`, its arguments and results.
2. `fit_search`: what happens in each hook; `preflight` has its settings, and checks before training
   that it can work; `notices` says where a search begins and what each round came to.
3. `round_record`: the measurements of a round, and its row in `results`.
4. `round_callbacks`: Keras callbacks that see every round as a training of its own; one of ours
   is `early_bird`, which ends a round when the mask that it would give settles.
5. `hooks`: what Keras asks of a callback, of either Keras; `data_order`: `lottery.order`, data
   sets whose order depends only on seed and epoch.
6. With `workdir=`: after each epoch `checkpointer` captures the search, the optimizer, the
   callbacks and the random generators as a `files.state_file`, which `search_workdir` writes in
   the background.  When the same script runs again, `search.model_identity` checks that model
   and optimizer are the same, and the search continues bit for bit.
"""
