"""What several wings need and nobody comes here to learn: private."""
