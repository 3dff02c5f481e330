"""Learners without gradients: baselines to train beside the models, and controls of measures."""
