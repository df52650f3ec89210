"""Where do images, compiled models and weights come from? What CodeBuild makes, and who waits for it."""
