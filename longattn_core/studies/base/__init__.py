"""What every study is made of: the study itself, sweeps, kept runs of mechanisms, and shared measurements."""
