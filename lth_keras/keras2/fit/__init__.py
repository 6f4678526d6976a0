"""A whole search in one `model.fit`, and what lets it survive its process.

Keras calls the hooks of `callback`; each is one line that hands over to `fit_search`, which is the
search as a loop turned inside out: rounds end in hooks.

Read in this order:

1. `callback`: `lth.LotteryTicketCallback`, its arguments and results.
2. `fit_search`: what happens at each hook; `preflight` refuses before training what cannot work.
3. `round_record`: what a round has measured so far, and its row in `results`.
4. `round_callbacks`: Keras callbacks that see every round as a training of its own.
5. `data_order`: `lottery.order`, data sets whose order is a function of seed and epoch.
6. With `workdir=`: after an epoch `checkpointer` captures the search, the optimizer, the callbacks
   and the random generators as a `files.state_file`, which `search_workdir` writes in the
   background.  When the same script runs again, `model_identity` makes sure that model,
   optimizer and data are the same, and the search goes on in the same bits.
"""
