"""Phase 2: sample answers, judge them, select the best, fine-tune on them."""
