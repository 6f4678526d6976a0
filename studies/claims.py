"""The claims of Frankle & Carbin (ICLR 2019), of Liu et al. (ICLR 2019), and of later papers.

How results decide them is in judging.py; what decides each, in lenet.py, convnets.py,
filter_claims.py, strong_claims.py, at_init_claims.py, sparse_training_claims.py,
transfer_claims.py and early_bird_claims.py.
"""

import functools

import at_init_claims
import convnets
import early_bird_claims
import filter_claims
import lenet
import shorter_convnets as shorter
import shorter_resnet
import sparse_training_claims as sparse
import strong_claims
import supermask_claims
import transfer_claims as transfer
from judging import Claim

LENET, ONE_SHOT, SGD = "lenet_300_100", "lenet_300_100_one_shot", "lenet_300_100_sgd"
LENET_5, CONV_2 = "lenet5_filters", "conv2_filters"  # Whole filters are pruned.
_SAME_TYPE = ("networks that are trained in float32 come to what they come to in bfloat16 (not the "
              "paper's claim: the others rest on it)")
HALF, CONTINUED = f"{LENET}_half", f"{LENET}_half_continued"  # Of the paper's steps.


def _convolutional(number: int, speed: str, gain: str, first: str,
                   note: str = "") -> tuple[Claim, ...]:
    """C1 to C5, of one of the three networks; a note is C1's."""
    net = f"Conv-{number}"
    return tuple(Claim(f"{name}, {net}", text, (f"conv{number}",),
                       functools.partial(judge, number=number), note if name == "C1" else "")
                 for name, text, judge in (
        ("C1", f"{net} {speed}", convnets.c1),
        ("C2", f"{net} {gain}", convnets.c2),
        ("C3", f"{net} stays above dense accuracy while P_m > 2%", convnets.c3),
        ("C4", f"{net}: training accuracy 100% at the last step while P_m >= 2%, tickets still "
         "more accurate on test data", convnets.c4),
        ("C5", f"{net} re-initialised gets slower as it is pruned{first}", convnets.c5)))


def _shorter(number: int) -> tuple[Claim, ...]:
    """The directions of C1, C2 and C5, and of L10, in fewer steps and levels."""
    net, run = f"Conv-{number}", shorter.NAMES[number]
    share = "two fifths" if number == 2 else "three tenths"
    same = Claim(f"D0, {net}", f"{net} at {share} of the paper's steps: {_SAME_TYPE}",
                 (run, f"{run}_float32"), functools.partial(shorter.d0, number=number))
    return same, *(Claim(
        f"{name}, {net}", f"{net} at {share} of the paper's steps: {text}", (run,),
        functools.partial(judge, number=number), given=same,
        planned=shorter.REPLICATES[number]) for name, text, judge in (
        ("D1", "tickets learn faster than dense networks", shorter.d1),
        ("D2", "tickets are more accurate than dense networks", shorter.d2),
        ("D3", "tickets learn faster than re-initialised ones, and are more accurate", shorter.d3),
        *([("D4", "re-initialised networks of 40% of the weights lose nothing", shorter.d4)]
          if number < 6 else []),
        ("D5", "random masks are less accurate than re-initialised tickets", shorter.d5)))


def _shorter_resnet() -> tuple[Claim, ...]:
    """The directions of R1, R2, R3, and of M1 and M2: rewinding to a step after the first."""
    start = "Resnet-18 at a tenth of the paper's steps: "
    same = Claim("D0, Resnet-18", start + _SAME_TYPE,
                 (shorter_resnet.NAMES["low"], shorter_resnet.NAMES["float32"]), shorter_resnet.d0)
    return same, *(Claim(f"{name}, Resnet-18", start + text,
                         tuple(shorter_resnet.NAMES.get(run, run) for run in runs), judge,
                         given=same, planned=shorter_resnet.REPLICATES)
                   for name, text, runs, judge in (
        ("D6", "at learning rate 0.01 tickets are better than re-initialised networks, and below "
         "dense ones at 0.1", ("low", "own"), shorter_resnet.d6),
        ("D7", "at 0.1 their advantage is smaller", ("low", "own"), shorter_resnet.d7),
        ("D8", "at 0.03 with warm-up they have it, and are better than at 0.01", ("warm", "low"),
         shorter_resnet.d8),
        ("D9", "at 0.1 tickets that are rewound to step 100 of 3,000 are better than those "
         "rewound to 0 (Frankle et al. 2020)", ("own", "rewound"), shorter_resnet.d9),
        ("D10", "networks trained from step 100 on are more stable to the order of the data, dense "
         "and pruned (Frankle et al. 2020)",
         tuple(f"{shorter_resnet.NAMES[run]}_barrier" for run in ("own", "rewound")),
         shorter_resnet.d10)))


def _filters(net: str, run: str, note: str = "") -> tuple[Claim, ...]:
    """S2, S3, S4 and S6, claimed of ResNet-56 and -110 and VGG-16, on a smaller network.

    A note is S4's.
    """
    return (
        Claim(f"S2, {net}", "Structured tickets are as good as re-initialised networks, within 0.3 "
              f"points (there ResNet-56 and -110 at learning rate 0.1; here {net})", (run,),
              filter_claims.s2),
        Claim(f"S3, {net}", "Trained from scratch for the dense network's multiply-adds "
              "(Scratch-B), a pruned network is no worse than fine-tuned, within 0.1 points "
              f"(there five networks; here {net})", (run, f"{run}_tuned"), filter_claims.s3),
        Claim(f"S4, {net}", "Trained from scratch for as many epochs (Scratch-E), it is as good as "
              f"fine-tuned, within 0.3 points (the same; here {net})", (run, f"{run}_tuned"),
              filter_claims.s4, note),
        Claim(f"S6, {net}", "Rewinding the learning rate is the one retraining of structured masks "
              "that beats re-initialisation (Renda et al. 2020, raw results on ResNet-56 and -110; "
              f"here {net})", (run, f"{run}_rewound"), filter_claims.s6))


CLAIMS = (
    Claim("L1", "LeNet at 21.1% (level 7) stops 38% earlier than dense", (LENET,), lenet.l1),
    Claim("L2", "LeNet at 13.5% (level 9): test accuracy at the early stop 0.3 points above dense",
          (LENET,), lenet.l2),
    Claim("L3", "LeNet at 3.6% (level 15) is back at the dense network's early stop and accuracy",
          (LENET,), lenet.l3,
          "the dense network's early stop varies over replicates by a quarter of itself.  The "
          "ticket's is earlier in the mean from level 2 to 12, and at level 16 it is later, told "
          "from chance; where between them it passes the dense network's is not told, and level 15 "
          "lies so near the margin of equality that no number of replicates in reach decides it."),
    Claim("L4", "LeNet at 51.3% (level 3) stops before dense, at 21.1% (level 7) before that; "
          "sparser ones later again", (LENET,), lenet.l4),
    Claim("L5", "LeNet after 50,000 steps: test accuracy up to 0.35 points above dense, training "
          "accuracy about 100% while P_m >= 2%", (LENET,), lenet.l5),
    Claim("L6", "LeNet at 21.1% reaches its least validation loss 2.51 times as fast as "
          "re-initialised, 0.5 points more accurate", (LENET,), lenet.l6),
    Claim("L7", "LeNet re-initialised falls below dense from 21.1% (level 7), the ticket only at "
          "2.9% (level 16)", (LENET,), lenet.l7,
          "the order is the paper's, the levels are not: re-initialised networks are as accurate "
          "as dense ones at level 7, to within 0.15 points, and fall below from level 9 on; the "
          "ticket is still as accurate at level 16.  Decided by the rule that was added later."),
    Claim("L8", "LeNet one-shot: stops earlier for 67.5% >= P_m >= 17.6%, is more accurate for "
          "95.0% >= P_m >= 5.17%; iterative is better at small sizes", (LENET, ONE_SHOT), lenet.l8,
          "one-shot tickets are more accurate than dense down to about 10% of the weights, and "
          "iterative ones are better at small sizes, as in the paper; but one-shot tickets stop no "
          "earlier than dense at level 7, to within 19%, and are no more accurate at level 13, to "
          "within 0.15 points.  Decided by the rule that was added later."),
    Claim("L9", "Resetting each round beats continued training at small sizes (figures 9, 10)",
          (HALF, CONTINUED), lenet.l9),
    Claim("L10", "LeNet: random sparsity is worse than re-initialisation (appendix E)", (HALF,),
          lenet.l10),
    Claim("L11", "Surviving initial weights: second and output layer bimodal, the first keeps its "
          "Gaussian (Adam); all three bimodal with SGD",
          (f"{LENET}_survivors", f"{SGD}_survivors"), lenet.l11,
          "all but one part are as in the paper.  Adam's second layer lies at the bound of two "
          "modes, 0.006 above it; trained for half the steps (lenet_300_100_half_survivors), 0.025 "
          "[0.014, 0.037] above.  SGD's networks were trained for a fifth of the paper's steps."),
    Claim("L12", "Weights of the ticket move further from their initial values, and more often "
          "away from 0, than those pruned (figures 19, 20)", (f"{LENET}_movement",), lenet.l12),
    Claim("L13", "Weights drawn from the survivors' are as good as re-initialised ones; pruning "
          "by magnitude before training is worse", (HALF,), lenet.l13,
          "at level 7 as in the paper.  At level 12 the means are equal to 0.02 points, and the "
          "interval is wider than the margin.  What is drawn from the survivors stops a little "
          "earlier there than what is re-initialised, by 12 [4, 19] %."),
    Claim("L14", "Noise of half a deviation hardly matters; with 3 deviations still better than "
          "re-initialised (figure 25)", (HALF,), lenet.l14,
          "half a deviation costs less than 0.1 points in the mean, as in the paper.  With three, "
          "a ticket is no more accurate at level 7 than re-initialised, by the rule that was added "
          "later; but at level 12 it stops 38 [24, 52] % earlier, and is more accurate in the "
          "mean."),
    Claim("L15", "Incoming connections are even over units, outgoing ones very uneven (Adam)",
          (f"{LENET}_connections",), lenet.l15,
          "the paper shows histograms and no figure, so that the bound, twice as uneven as random "
          "masks, is ours.  The second layer is as the paper says; the first layer's units differ "
          "in their incoming connections too, and in the output layer both are even."),
    Claim("L16", "Adam's learning rates 2e-4 to 2e-3 give similar accuracy; SGD 0.4 to 0.8 keeps "
          "its early stop down to below 1%",
          (f"{LENET}_adam_2e-4", f"{LENET}_fraction_0.2", f"{LENET}_adam_2e-3",
           f"{LENET}_sgd_0.4", f"{LENET}_sgd_0.8"), lenet.l16,
          "SGD's tickets of 0.9% stop no later than its dense networks in the mean, but at a rate "
          "of 0.8 too unevenly to tell from chance.  Adam's accuracies lie within 0.25 points of "
          "each other, which three replicates do not tell from 0.15; at 2e-4 a fifth of the "
          "paper's steps is too few: early stops lie at the last steps."),
    Claim("L17", "Rates of 0.1 and 0.2 a round beat 0.4 and more; initial deviation 0.1 is as good "
          "as Glorot's", (*(f"{LENET}_fraction_{fraction}" for fraction in (0.1, 0.2, 0.4, 0.6)),
                           f"{LENET}_normal_0.1"), lenet.l17,
          "at 4% of the weights, the order of the means is the paper's: 98.1% for rates of 0.1 and "
          "0.2, below 98.0% for 0.4 and 0.6.  Three replicates at a fifth of the paper's steps do "
          "not tell it from chance, but for one of the four differences."),
    Claim("L18", "All widths return to the dense accuracy at about 9,000 to 15,000 weights",
          (f"{LENET}_width_100", f"{LENET}_width_200", f"{LENET}_fraction_0.2"), lenet.l18,
          "with 15,000 weights LeNet-100-34, -200-67 and -300-100 are more accurate in the mean "
          "than their dense networks; with less than 9,000 three replicates at a fifth of the "
          "paper's steps do not tell that any of them is worse."),
    *_convolutional(2, "at 8.8% (level 11) learns 3.5 times as fast as dense",
                    "at 4.6% (level 14): test accuracy at the early stop 3.4 points above dense",
                    ", and first keeps or gains accuracy",
                    "this and C2 rest on one replicate, trained for a twentieth of the paper's "
                    "steps, at whose end the validation loss still falls: early stops are not "
                    "reached, and nothing can be told from it.  More takes a GPU: a step is 15.5 "
                    "GFLOP and takes one of these cores 174 ms, 89 GFLOP/s where its matrix "
                    "product does 133; tickets and re-initialised networks to level 17 are 40 "
                    "hours of a core, a replicate (`lth run conv2 --dry_run --replicates 1 --jobs "
                    "1`).  CIFAR-10 is CIFAR-10 (JPEG), every image compressed once."),
    *_convolutional(4, "at 9.2% (level 12) learns 3.5 times as fast as dense",
                    "at 11.1% (level 11): test accuracy at the early stop 3.5 points above dense",
                    ", and first keeps or gains accuracy"),
    *_convolutional(6, "at 15.1% (level 10) learns 2.5 times as fast as dense",
                    "at 26.4% (level 7): test accuracy at the early stop 3.3 points above dense",
                    ""),
    *_shorter(2), *_shorter(4), *_shorter(6),
    Claim("C6", "Dropout: dense +2.1, +3.0, +2.4 points; pruning adds up to +2.3, +4.6, +4.7"),
    Claim("C7", "Dense validation accuracy 67.6, 74.9, 79.1%; tickets 70.9, 78.6, 81.5%"),
    Claim("C8", "Appendix H: speed-ups 4.8, 4.27, 2.61; with dropout 1.58 (Conv-4), 1.5 (Conv-6)"),
    Claim("C9", "Pruning convolutions alone is more accurate and faster; dense layers alone worse"),
    Claim("V1", "VGG-19 at learning rate 0.1: tickets no better than re-initialised"),
    Claim("V2", "VGG-19 at 0.01: within 1 point of its dense network while P_m >= 3.5%"),
    Claim("V3", "VGG-19 at 0.1 with warm-up: dense about +1 point; tickets above it while "
          "P_m >= 1.5%; layer by layer only to 6.9%"),
    Claim("V4", "VGG-19 80% pruned and re-initialised matches dense; far sparser it does not"),
    Claim("R1", "Resnet-18 at 0.01: best ticket 89.5% for 41.7% >= P_m >= 21.9%; dense at 0.1 "
          "90.5%"),
    Claim("R2", "Resnet-18 at 0.1: tickets as re-initialised"),
    Claim("R3", "Resnet-18 at 0.03 with warm-up: 90.5% at 27.1%; tickets to 11.8%"),
    Claim("R4", "Resnet-18 at 0.1: no warm-up works"),
    *_shorter_resnet(),
    Claim("T", "Liu et al. 2019, section 6 (there VGG-16 and ResNet-56): tickets are better than "
          "re-initialised at learning rate 0.01, and not at 0.1. Here LeNet, their optimizer and "
          "schedule", (f"{LENET}_rate_0.01", f"{LENET}_rate_0.1"), lenet.rate,
          "at the high learning rate the ticket's advantage is a fifth of that at the low one, and "
          "does not vanish on this network."),
    Claim("S1", "Liu et al. 2019, L1 pruning of filters: filters kept, parameters and "
          "multiply-adds saved (table 1 of Li et al. 2017), epochs of Scratch-B", (),
          filter_claims.s1),
    *_filters("LeNet-5", LENET_5),
    *_filters("Conv-2", CONV_2,
              "trained for a tenth of the paper's steps, it is not at its end, and fine-tuning, "
              "for a quarter of these steps at the last learning rate, does not make up for the "
              "filters that are gone: at the last level it is 6 points below.  For the same reason "
              "rewinding the learning rate wins (S6): it trains on."),
    Claim("S5, LeNet-5", "S2 at a tenth of the learning rate (there 0.01; here Adam 1.2e-4)",
          (f"{LENET_5}_low",), filter_claims.s2,
          "at the low learning rate a structured ticket is better than new weights, the more the "
          "fewer filters are left: by 0.4, 1.3 and 2.3 points.  At the preset's there is no "
          "difference (S2).  After as many steps all these networks are less accurate than at the "
          "preset's learning rate."),
    *(Claim(f"{name}, {network}", f"{network} on CIFAR-10, 160 epochs: {text}")
      for network in ("VGG-16-A", "ResNet-56-A", "ResNet-56-B", "ResNet-110-A", "ResNet-110-B")
      for name, text in (
          ("S2", "structured ticket as re-initialised, within 0.3 points"),
          ("S3", "Scratch-B no worse than fine-tuned, within 0.1 points"),
          ("S4", "Scratch-E as fine-tuned, within 0.3 points"))),
    Claim("B1", "Lueker 1998, Pensia et al. 2020: the error of a subset sum falls exponentially, "
          "by a quarter to a third of a power of ten for each random coefficient", (),
          strong_claims.b1),
    Claim("B2", "Pensia et al. 2020: of 21 random coefficients for each weight of 784-500-10, sums "
          "come within 0.01 of every weight; the accuracy on MNIST stays, with 9 to 11 kept for "
          "each weight", (), strong_claims.b2,
          "with coefficients of their own, as their text says, 4 of 397,000 weights have draws "
          "that are nearly all of one sign; 24 coefficients leave none "
          "([strong.md](strong.md)).  With coefficients shared by the weights into a neuron, as "
          "in their code, every part holds, and so it does with 16."),
    Claim("B3", "Malach et al. 2020: matching both weights of a random neuron, the error falls as "
          "width^-1/2; matching their product as width^-1; a subset sum is nearer than either from "
          "10 neurons on", (), strong_claims.b3),
    Claim("B4", "Malach et al. 2020, theorem 2.1: a random network of twice the depth holds a "
          "subnetwork that computes any of ten random networks within 0.01 in the unit ball; the "
          "weights that are kept grow with the logarithm of 1/error (Pensia et al. 2020)", (),
          strong_claims.b4),
    Claim("B5", "A ReLU neuron as a sum of random neurons gets worse with its number of inputs; as "
          "a subnetwork of weights it does not (Malach et al. 2020, Yehudai & Shamir 2019)", (),
          strong_claims.b5),
    Claim("B6", "da Cunha et al. 2022: with five coefficients more, the largest error of a "
          "convolution's output falls at least ten times, beyond 10 coefficients", (),
          strong_claims.b6,
          "it falls 14 times on average and unevenly, as the error is that of the least lucky "
          "weight."),
    *(Claim(name, f"Frankle et al. 2021 (there ResNet-20 and VGG-16; here LeNet): {text}", runs,
            judge, note) for name, text, runs, judge, note in (
        ("F1", "masks of SNIP, GraSP, SynFlow and magnitudes at initialisation are as good "
         "shuffled in each layer, and with weights drawn anew", at_init_claims.NAMES[:4],
         at_init_claims.f1,
         "shuffled, SNIP's, GraSP's and SynFlow's masks lose 0.7 to 2.8 points beyond the margin "
         "at 2.6 and 6.4% of the weights, and are hardly better than random ones: on MNIST the "
         "first layer's mask can say which pixels carry anything.  New weights cost little, and "
         "help GraSP.  Trained for a quarter of the paper's epochs."),
        ("F2", "those of magnitudes after training are worse shuffled, and with weights drawn anew",
         at_init_claims.NAMES[5:], at_init_claims.f2, ""),
        ("F3", "GraSP's are as good if the lowest scores are kept in place of the highest",
         at_init_claims.NAMES[1:2], at_init_claims.f3,
         "in the mean they are worse at every density, and by 42 points at 2.6%."),
        ("F4", "with 80% of weights pruned or more, each early method is better than random masks "
         "and worse than magnitudes after training", at_init_claims.NAMES, at_init_claims.f4, ""))),
    Claim("E1", "Evci et al. 2020 (there LeNet-300-100 and ResNet-50), here LeNet with 2% of its "
          "weights: RigL is better than SET, SET than a static random mask; gradual magnitude "
          "pruning is no worse than RigL, within 0.3 points", (sparse.SPARSE,), sparse.e1),
    Claim("E2", "LeNet with 2% of its weights: a ticket is no worse than RigL, SET, a static "
          "random mask and gradual pruning, each trained for as many steps, within 0.3 points "
          "(Gale et al. 2019 and Evci et al. 2020 find the opposite of ResNet-50)",
          (sparse.SPARSE,), sparse.e2),
    Claim("E3", "Ramanujan et al. 2020, here LeNet: half of the weights of an untrained network, "
          "chosen by edge-popup, reach 95% on MNIST", (sparse.SUPERMASK,), sparse.e3),
    Claim("E4", "the same: it gets better as the network gets twice and four times as wide, and "
          "comes within a point of the trained network of a quarter of the width", sparse.WIDTHS,
          sparse.e4),
    Claim("E5", "Ramanujan et al. 2020, figure 3, here LeNet and LeNet-5: edge-popup is best where "
          "30 to 70% of the weights are kept; none of them, and all, guess", (),
          supermask_claims.e5),
    Claim("E6", "the same: half of the weights of an untrained network reach 95% on MNIST with the "
          "initialisation that keeps activations at their size, in a convolutional network too", (),
          supermask_claims.e6),
    Claim("B7", "Diffenderfer & Kailkhura 2021, here LeNet: half of the weights, replaced by signs "
          "times one number, are within a point of edge-popup's", (sparse.SUPERMASK,), sparse.e5),
    Claim("TR2", "Morcos et al. 2019 (there VGG-19 and ResNet-50, larger data sets; here LeNet and "
          "three sets of 8x8 pixels): tickets of another task are better than random masks of as "
          "many weights, 3% of all", transfer.NAMES, transfer.tr2),
    Claim("TR4", "the same: random masks that keep the layers' proportions are better than those "
          "that do not", transfer.NAMES, transfer.tr4),
    Claim("EB1", "You et al. 2020 (there filters of VGG-16 and PreResNet-101; here weights of "
          "LeNet): the mask that pruning would give settles in the first fifth of the training", (),
          early_bird_claims.eb1),
)
