"""When does weight sparsity pay? Declarative, reproducible scaling studies of sparse models.

specs       what a user writes            laws     forms, fits, uncertainty, optimal sparsity
models      T5, ViT, decoder              search   Optuna: the optimal sparsity of each data budget
data        sources to streams            plots    what is drawn, and drawing it
pruning     masks on schedule             report   findings, verdict, page
training    one RunSpec, one RunRecord    stages   the steps of a study
sweep       what is missing, in parallel  cli      the command line
"""

__version__ = "0.1.0"
