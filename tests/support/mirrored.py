"""Searches in `fit` on two devices that are killed or stopped and run again, as a process."""

import devices
import tf_keras as keras
from resumed_fits import Dies, Fits, Logs, tickets


def main(folder):
    """Fails unless every search ends as the one does that is left alone."""
    with devices.two_devices().scope():
        fits = Fits(keras.optimizers.Adam(0.02))
    assert fits.model.distribute_strategy.num_replicas_in_sync == 2
    whole = fits.fit(folder / "whole", Logs())
    for moment in (("on_train_batch_begin", 7), ("on_epoch_end", 3)):
        assert fits.fit(folder / "killed", Logs(), Dies(*moment)) is None
    fits.fit(folder / "stopped", Logs(last=4))
    for name in ("killed", "stopped"):
        assert fits.fit(folder / name, Logs()) == whole
        assert tickets(folder / name) == tickets(folder / "whole")
