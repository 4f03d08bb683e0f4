"""What hashing finds: one pair through the rounds, the directions of a head, and recall over dials and seeds."""
