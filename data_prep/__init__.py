"""Turns image files into data sets for training and evaluation."""
