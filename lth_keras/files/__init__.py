"""Files: writes them atomically, and reads them as untrusted.

A file that `lth_keras` writes exists as a whole or not at all, even if the process is killed.  A
file that it reads may be truncated, altered, foreign, a link, or made by an attacker; then an error
names the file and says what is wrong with it.  Pickle is used nowhere.

Read in this order:

1. `atomic`: writes a file under a temporary name, syncs and renames it; reads plain files up to a
   size limit.
2. `checksums`: SHA-256 checksums, stored in a file itself or in another file that names it.
3. `json_checks`: checks that JSON values have a given shape.
4. `tensor_file`: named arrays and JSON metadata in one safetensors file.
5. `ticket`: the `Ticket` (theta_k, the masks and their provenance) and its file.
6. `state_file`: the file with the state of a search in `fit` between two epochs.
7. `engines`: finds the module that applies a ticket to a model, by the model's class.
8. `workdir_lock`: locks a workdir for one process, and tells an `lth run`'s from a search's.
9. `provenance`: package versions, the machine, and fingerprints of settings.
10. `data_file`: a user's own data, as numpy.savez writes them.

This package imports `core` only.  A ticket belongs to no engine: `Ticket.apply` finds the engine by
the model that it is given.
"""
