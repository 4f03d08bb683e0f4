"""What a stride finds: the weight of exact attention on the keys that it reads."""
