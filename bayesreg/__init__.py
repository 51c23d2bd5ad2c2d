"""The MAP and the posterior of Bayesian linear regression, and the penalised fits that they correspond to."""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submodules=["plots"],
    submod_attrs={
        # data
        "data": ["RegressionData", "load_diabetes", "simulate_weight_decay", "read_table", "read_batches"],
        "moments": ["Moments"],
        # priors, penalties, and the dictionary between them
        "priors": ["GaussianPrior", "LaplacePrior", "FlatPrior"],
        "elastic_net_prior": ["ElasticNetPrior"],
        "penalties": ["Penalty", "L1", "L2"],
        "conventions": ["penalty_for", "prior_for"],
        "certificates": ["Certificate", "certify"],
        # the model, its mode and its posterior
        "model": ["LinearRegression"],
        "inference.map": ["MapEstimate", "map_estimate"],
        "sampling": ["sample"],
        "posteriors.posterior": ["Posterior"],
        "paths.posterior_path": ["PosteriorPath", "posterior_path"],
        "warnings": ["ConvergenceWarning"],
        # the whole lambda axis
        "paths.penalty_path": ["Path", "path"],
        "selection.cross_validation": ["CrossValidation", "cross_validate"],
        "selection.choosing": ["Choice", "LambdaChoice", "choose_lambda"],
        "selection.choice_study": ["ChoiceStudy", "study_choice"],
        # penalised training, and the comparison of both roads
        "training.train": ["TrainingRun", "train"],
        "training.path": ["TrainingPath", "train_path"],
        "training.remedies": ["Remedy", "bagging", "dropout", "early_stopping", "input_noise", "more_data"],
        "comparison": ["Comparison", "compare"],
    },
)
