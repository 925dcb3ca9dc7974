"""Our rollout and packed row inside other people's trainers."""
