"""What a run leaves in its workdir, and what follows from it.

In reading order:

    outcome       what goes into one training and what comes out of it
    record        the file that marks a training as done and vouches for its others
    paths         where everything lies, and how it is read as a file that may be anything
    store         keeps what trainings leave, and finds what is done
    repair        finds damage, and takes it away to be done again
    runs          workdirs as a report reads them
    statistics    means, intervals and tests over replicates
    verdicts      whether a level's tickets win
"""
