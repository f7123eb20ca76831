"""Which of TRL's losses read an option that the others leave aside."""

# Options, separated by spaces, and the values of loss_type that read them.
READ_BY = (
    ("discopop_tau", {"discopop"}),
    ("label_smoothing", {"robust", "exo_pair", "aot", "aot_unpaired"}),
    ("epsilon delta", {"grpo", "bnpo", "dr_grpo", "dapo", "luspo"}),
    ("epsilon_high", {"grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo"}),
    ("sapo_temperature_pos sapo_temperature_neg", {"sapo"}),
    ("vespo_k_pos vespo_k_neg vespo_lambda_pos vespo_lambda_neg", {"vespo"}),
)
