"""What lies on disk, written whole and read as untrusted.

A file that `lth_keras` writes is there as a whole or not at all, whenever the process is killed;
and whatever it reads may be truncated, altered, foreign, a link, or made by an attacker: then an
error names the file and says what is wrong.  There is no pickle anywhere.

Read in this order:

1. `atomic`: write under a temporary name, sync, rename; read plain files of a bounded size.
2. `checksums`: the SHA-256 that a file carries in its head, or that the file that vouches for it
   has of it.
3. `json_checks`: JSON of a stated shape.
4. `tensor_file`: named arrays and a JSON head in one safetensors file.
5. `ticket`: the `Ticket`: theta_k, the masks, and where they came from, in one such file.
6. `state_file`: the state of a search in `fit` between two epochs, in another such file.
7. `engines`: which module puts a ticket into a model, found by the model's class.
8. `workdir_lock`: whose a workdir is, and one process at a time in it.
9. `provenance`: the versions and the machine that something was made with.

Imports `core` alone.  A ticket belongs to no engine: `Ticket.apply` finds the engine by the model
that it is given.
"""
