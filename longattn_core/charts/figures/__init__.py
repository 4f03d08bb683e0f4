"""The figures of each topic: one file a topic, under the key of its page and of its studies."""
