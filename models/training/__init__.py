"""What the training recipes share: data, augmentation, losses, the loop, export and scoring."""
