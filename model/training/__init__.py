"""Trains the network: data, augmentation, losses and the loop. The service never imports this."""
