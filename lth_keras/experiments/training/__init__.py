"""How one network is trained, in TensorFlow and tf_keras.

In reading order:

    round_runner  one round: from a ticket, through a training, to the ticket of the next level
    trainer       one training: what goes into the compiled program, and what it measures
    program       the compiled program: steps in a loop, and evaluation
    data_feed     how examples reach the program: from the device's memory, or streamed
    datasets      the data sets, by name
    augmentation  how training images are varied
    networks      the papers' networks, by name
    models        a network built and compiled for a configuration, and its weights drawn anew
    optimizers    the configuration's optimizer and learning rate
    evaluator     the error of given weights on the test set
"""
