"""Graph passes: small named rewrites between Optimum's graph and the one that a bundle ships."""
