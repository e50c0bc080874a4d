"""What mutual information is: bounds and critics on score matrices, nothing of images."""
