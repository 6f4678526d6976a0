"""Searches in `fit` on two devices that are killed or stopped and run again, as a process."""

import devices
import tf_keras as keras
from dying import Dies
from resumed_fits import Fits, Logs, tickets


def main(folder, ways):
    """Fails unless every search ends as the one does that is left alone.

    Args:
      folder: an empty one.
      ways: what happens to the searches: "killed", "killed again" (a search that was killed before)
        and "stopped".
    """
    with devices.two_devices().scope():
        fits = Fits(keras.optimizers.Adam(0.02))
    assert fits.model.distribute_strategy.num_replicas_in_sync == 2
    whole = fits.fit(folder / "whole", Logs())
    for way in ways:
        name, _, again = way.partition(" ")
        if name == "stopped":
            fits.fit(folder / name, Logs(last=4))
        else:
            moment = ("on_epoch_end", 3) if again else ("on_train_batch_begin", 7)
            assert fits.fit(folder / name, Logs(), Dies(*moment)) is None
    for name in {way.partition(" ")[0] for way in ways}:
        assert fits.fit(folder / name, Logs()) == whole
        assert tickets(folder / name) == tickets(folder / "whole")
