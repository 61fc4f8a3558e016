"""Where the pixels of the next frame come from: estimators behind one interface, one file each."""
