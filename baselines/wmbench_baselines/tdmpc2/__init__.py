"""TD-MPC2 (https://arxiv.org/abs/2310.16828): a latent world model learned for, and used by, planning."""
