"""Penalised stochastic gradient descent on rows, and the remedies that resemble a penalty; no prior is known here."""
