"""The ranking of a suite: scores of methods, their differences with intervals, and ranks.

A method's score on one net is the mean, over the keep ratios of an experiment, of the test accuracy
that the net has lost by being pruned and retrained, in points: the area between the method's curve
and the line of the unpruned net, negative if pruning costs accuracy. Two methods are compared by
the differences of their scores on the same nets, never by their curves alone, since nets differ
from each other more than good methods do.
"""
