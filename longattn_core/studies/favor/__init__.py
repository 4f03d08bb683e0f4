"""What random features do: the estimate pair by pair, its errors, its running state, and the paper's theory."""
