"""From image files to data sets that training and evaluation read."""
