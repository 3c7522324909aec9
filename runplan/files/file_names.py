"""Names of the files of a group, each said once: whoever writes a file and whoever reads it agree. Pure."""

DOCUMENT = "plan.json"
README = "README.md"
PAGE = "report.html"
PLAN_TABLE = "plan.csv"
SUBMIT_ALL = "submit_all.sh"
LEDGER = "ledger.jsonl"
RESULTS = "results.csv"
"""What `collect` writes last changed when results were last collected."""
RECORDS = "jobs.jsonl"
"""What a job writes into its own directory: when it began, what it ran, how it ended."""

# of a run
SETUP = "setup_finetune.yaml"
TRAINER_CONFIG = "finetune.yaml"
"""What a job tries first; `finetune.rung1.yaml` and so on follow when the GPU's memory is too small."""
TRAIN_SCRIPT = "finetune.slurm"
PROMPT = "run_prompt.py"
MISTRAL_TOKENIZER = "mistral_tokenizer.py"
RESUME = "resume.py"
"""What a job asks which of its earlier attempts count."""
COMPOSED_CONFIG = ".hydra/config.yaml"

# of an evaluation cell
CELL_FACTS = "eval.yaml"
CELL_SCRIPT = "cell.slurm"
