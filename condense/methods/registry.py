"""Every method as one line of plain data: listing them imports no method and no torch.

A package adds its own through an entry point in the group `condense.synthesizers` whose object is a `Method`.
"""

from __future__ import annotations

from functools import cache

from condense.methods.method import Method
from condense.methods.registered_graphs import GRAPH_METHODS
from condense.runtime.errors import CondenseError
from condense.runtime.registry import Registry, plain, with_entry_points

_TRAINED = "a network (trained once, cached)"
_TRAINED_SEVERAL = "networks (trained once, cached)"
_BUILT_IN = (
    Method(
        name="dm",
        aliases=("distribution-matching",),
        target="condense.synthesizers.distribution_matching:DistributionMatching",
        summary="match the class means of features in randomly initialised networks",
        paper="Zhao & Bilen, Dataset Condensation with Distribution Matching, WACV 2023",
        protocol="dsa",
    ),
    Method(
        name="dc",
        aliases=("gradient-matching",),
        target="condense.synthesizers.gradient_matching:GradientMatching",
        summary="match the gradients that real and synthetic images give a network, along its training",
        paper="Zhao, Mopuri & Bilen, Dataset Condensation with Gradient Matching, ICLR 2021",
        protocol="dc",
    ),
    Method(
        name="dsa",
        aliases=("siamese-gradient-matching",),
        target="condense.synthesizers.gradient_matching:SiameseGradientMatching",
        summary="dc with the same differentiable augmentation of real and synthetic images",
        paper="Zhao & Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021",
        protocol="dsa",
    ),
    Method(
        name="datadam",
        aliases=("attention-matching",),
        target="condense.synthesizers.attention_matching:AttentionMatching",
        summary="match where random networks look, layer by layer, and the class means of their features",
        paper="Sajedi et al., DataDAM: Efficient Dataset Distillation with Attention Matching, ICCV 2023",
        protocol="datadam",
        revision=2,
    ),
    Method(
        name="idc",
        aliases=("multi-formation",),
        target="condense.synthesizers.multi_formation:MultiFormation",
        summary="match gradients in networks trained on real data; each stored image holds several (factor 1 to 3)",
        paper="Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022",
        protocol="idc",
        revision=3,
    ),
    Method(
        name="idm",
        aliases=("improved-distribution-matching",),
        target="condense.synthesizers.improved_distribution_matching:ImprovedDistributionMatching",
        summary="dm in a queue of networks in training, with a classification loss and four images in each stored one",
        paper="Zhao et al., Improved Distribution Matching for Dataset Condensation, CVPR 2023",
        protocol="dsa",
        revision=4,
    ),
    Method(
        name="frepo",
        aliases=("neural-feature-regression",),
        target="condense.synthesizers.feature_regression:FeatureRegression",
        summary="images and labels for which ridge regression on a network's features is right about real images",
        paper="Zhou, Nezhadarya & Ba, Dataset Distillation using Neural Feature Regression, NeurIPS 2022",
        labels="soft",
        protocol="regression",
    ),
    Method(
        name="rcig",
        aliases=("convexified-implicit-gradients",),
        target="condense.synthesizers.implicit_gradients:ImplicitGradients",
        summary="frepo with the rest of the network linearised, trained as well, and differentiated implicitly",
        paper="Loo et al., Dataset Distillation with Convexified Implicit Gradients, ICML 2023",
        labels="soft",
        protocol="desk-regression",
    ),
    Method(
        name="ncfm",
        aliases=("characteristic-function-matching",),
        target="condense.synthesizers.characteristic_matching:CharacteristicMatching",
        summary="match characteristic functions of features, amplitude and phase, between initial and trained networks",
        paper="Wang et al., Dataset Distillation with Neural Characteristic Function, CVPR 2025",
        needs="networks (trained first, cached)",
        protocol="ncfm",
        revision=3,
    ),
    Method(
        name="mtt",
        aliases=("trajectory-matching",),
        target="condense.synthesizers.trajectory_matching:TrajectoryMatching",
        summary="networks trained on the set end where experts, trained on real images, are some epochs later",
        paper="Cazenavette et al., Dataset Distillation by Matching Training Trajectories, CVPR 2022",
        needs="experts (condense experts)",
        experts="sgd",
        protocol="mtt",
    ),
    Method(
        name="tesla",
        target="condense.synthesizers.assigned_labels:SoftLabelTrajectoryMatching",
        summary="mtt with the gradient as TESLA computes it and, above ten classes or if asked, labels by experts",
        paper="Cui et al., Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory, ICML 2023",
        labels="hard or soft",
        needs="experts (condense experts)",
        experts="sgd",
        protocol="mtt",
        soft_protocol="mtt-soft",
        revision=2,
    ),
    Method(
        name="ftd",
        aliases=("flat-trajectory-matching",),
        target="condense.synthesizers.trajectory_matching:FlatTrajectoryMatching",
        summary="mtt with experts from flat regions and an average of the images",
        paper="Du et al., Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation, CVPR 2023",
        needs="experts (condense experts --optimizer flat)",
        experts="flat",
        protocol="mtt",
    ),
    Method(
        name="datm",
        aliases=("difficulty-aligned-trajectory-matching",),
        target="condense.synthesizers.difficulty_alignment:DifficultyAlignment",
        summary="mtt from the part of trajectories that fits the set's size, with learned soft labels",
        paper="Guo et al., Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching, ICLR 2024",
        labels="soft",
        needs="experts (condense experts --optimizer flat)",
        experts="flat",
        label_experts=True,
        protocol="datm-soft",
    ),
    Method(
        name="ast",
        aliases=("smooth-trajectory-matching",),
        target="condense.synthesizers.smooth_trajectories:SmoothTrajectoryMatching",
        summary="mtt with smooth experts, targets on the way and a perturbed start",
        paper="Shen et al., Efficient Dataset Distillation through Alignment with Smooth Expert Trajectories, 2023",
        needs="experts (condense experts --optimizer smooth)",
        experts="smooth",
        protocol="mtt",
        revision=2,
    ),
    Method(
        name="sre2l",
        aliases=("squeeze-recover-relabel",),
        target="condense.synthesizers.recovery.squeeze_recover:SqueezeRecover",
        summary="images that a teacher classifies and that have the statistics of its training",
        paper="Yin, Xing & Shen, Squeeze, Recover and Relabel, NeurIPS 2023",
        needs="a teacher with BatchNorm (condense teachers)",
        teacher=True,
        protocol="sre2l-soft",
    ),
    Method(
        name="cda",
        aliases=("curriculum-data-augmentation",),
        target="condense.synthesizers.recovery.curriculum:Curriculum",
        summary="sre2l whose crops begin with the whole image and become smaller",
        paper="Yin & Shen, Dataset Distillation via Curriculum Data Augmentation in Large Data Era, TMLR 2024",
        needs="a teacher with BatchNorm (condense teachers)",
        teacher=True,
        protocol="sre2l-soft",
    ),
    Method(
        name="dwa",
        aliases=("directed-weight-adjustment",),
        target="condense.synthesizers.recovery.weight_adjustment:WeightAdjustment",
        summary="sre2l from real images, with a teacher whose weights are moved for each slice",
        paper="Du et al., Diversity-Driven Synthesis through Directed Weight Adjustment, NeurIPS 2024",
        needs="a teacher with BatchNorm (condense teachers)",
        teacher=True,
        protocol="sre2l-soft",
    ),
    Method(
        name="cv-dd",
        aliases=("committee-voting",),
        target="condense.synthesizers.recovery.committee_voting:CommitteeVoting",
        summary="sre2l from real patches, with two of several teachers voting on each slice",
        paper="Cui et al., Dataset Distillation via Committee Voting, CVPR 2025",
        needs="teachers with BatchNorm (condense teachers)",
        teacher=True,
    ),
    Method(
        name="infer",
        aliases=("inter-class-feature-compensation",),
        target="condense.synthesizers.recovery.feature_compensation:FeatureCompensation",
        summary="real images, and once more with learned images that are added to one of every class",
        paper="Zhang et al., Breaking Class Barriers: Inter-Class Feature Compensator, ICLR 2025",
        needs="teachers with BatchNorm (condense teachers)",
        teacher=True,
    ),
    Method(
        name="nrr-dd",
        aliases=("non-critical-region-refinement",),
        target="condense.synthesizers.recovery.region_refinement:RegionRefinement",
        summary="mosaics of real patches, refined where the teachers do not look (details of the paper are open)",
        paper="Non-Critical Region Refinement, arXiv 2503.18267",
        needs="a teacher with BatchNorm (condense teachers)",
        teacher=True,
    ),
    Method(
        name="rded",
        aliases=("patch-selection",),
        target="condense.synthesizers.recovery.patch_selection:PatchSelection",
        summary="mosaics of the patches of real images that a teacher finds easiest; nothing is learned",
        paper="Sun et al., On the Diversity and Realism of Distilled Dataset, CVPR 2024",
        needs="a teacher (condense teachers)",
        teacher=True,
        protocol="rded-soft",
    ),
    Method(
        name="noise",
        target="condense.synthesizers.recovery.noise:Noise",
        summary="normal noise of the data's colours: the control of what labels alone teach",
        paper="baseline",
    ),
    Method(
        name="random",
        target="condense.selection.random:Random",
        summary="real images of each class, drawn uniformly without replacement",
        paper="baseline",
    ),
    Method(
        name="herding",
        target="condense.selection.herding:Herding",
        summary="real images whose running mean of features follows the class mean",
        paper="Welling, Herding Dynamical Weights to Learn, ICML 2009",
        needs="features (trained once, cached)",
    ),
    Method(
        name="k-center",
        aliases=("kcenter",),
        target="condense.selection.k_center:KCenter",
        summary="real images that leave no image of their class far from a chosen one",
        paper="Sener & Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach, ICLR 2018",
        needs="features (trained once, cached)",
    ),
    Method(
        name="kmeans",
        aliases=("k-means",),
        target="condense.selection.kmeans:KMeans",
        summary="real images nearest to the centres of k-means on the features of their class",
        paper="Cui et al., DC-BENCH, NeurIPS 2022 (k-means-emb)",
        needs="features (trained once, cached)",
        nested=False,
    ),
    Method(
        name="forgetting",
        aliases=("forgetting-events",),
        target="condense.selection.forgetting:Forgetting",
        summary="real images that a network in training forgets most often",
        paper="Toneva et al., An Empirical Study of Example Forgetting, ICLR 2019",
        needs=_TRAINED,
    ),
    Method(
        name="el2n-easy",
        target="condense.selection.error_norms:Easy",
        summary="real images of the smallest error early in training: for small parts of the data",
        paper="Paul, Ganguli & Dziugaite, Deep Learning on a Data Diet, NeurIPS 2021 (score)",
        needs=_TRAINED_SEVERAL,
    ),
    Method(
        name="el2n-hard",
        target="condense.selection.error_norms:Hard",
        summary="real images of the largest error early in training: for large parts of the data",
        paper="Paul, Ganguli & Dziugaite, Deep Learning on a Data Diet, NeurIPS 2021",
        needs=_TRAINED_SEVERAL,
    ),
    Method(
        name="grand",
        aliases=("gradient-norms",),
        target="condense.selection.gradient_norms:GradientNorms",
        summary="real images of the largest gradient of the last layer early in training",
        paper="Paul, Ganguli & Dziugaite, Deep Learning on a Data Diet, NeurIPS 2021",
        needs=_TRAINED_SEVERAL,
    ),
    Method(
        name="entropy",
        target="condense.selection.uncertainty:Entropy",
        summary="real images on which the probabilities of a trained network have the largest entropy",
        paper="Settles, Active Learning Literature Survey, 2009",
        needs=_TRAINED,
    ),
    Method(
        name="margin",
        target="condense.selection.uncertainty:Margin",
        summary="real images whose two likeliest classes are nearly as likely",
        paper="Settles, Active Learning Literature Survey, 2009",
        needs=_TRAINED,
    ),
    Method(
        name="least-confidence",
        target="condense.selection.uncertainty:LeastConfidence",
        summary="real images whose likeliest class is least likely",
        paper="Settles, Active Learning Literature Survey, 2009",
        needs=_TRAINED,
    ),
    Method(
        name="aum",
        aliases=("area-under-margin",),
        target="condense.selection.area_under_margin:AreaUnderMargin",
        summary="real images that are told from other classes by the largest margins all through training",
        paper="Pleiss et al., Identifying Mislabeled Data using the Area Under the Margin Ranking, NeurIPS 2020",
        needs=_TRAINED,
    ),
    Method(
        name="ccs",
        aliases=("coverage-centric-selection",),
        target="condense.selection.coverage:Coverage",
        summary="real images of every difficulty but the greatest",
        paper="Zheng et al., Coverage-centric Coreset Selection for High Pruning Rates, ICLR 2023",
        needs=_TRAINED,
        nested=False,
    ),
    Method(
        name="moderate",
        aliases=("moderate-coreset",),
        target="condense.selection.moderate:Moderate",
        summary="real images at the median distance from the mean of their class",
        paper="Xia et al., Moderate Coreset: A Universal Data Pruning Method, ICLR 2023",
        needs=_TRAINED,
    ),
    Method(
        name="d2",
        aliases=("d2-pruning",),
        target="condense.selection.difficulty_and_diversity:DifficultyAndDiversity",
        summary="real images that are difficult and lie apart, by messages along a graph of neighbours",
        paper="Maharana et al., D2 Pruning: Message Passing for Balancing Diversity and Difficulty, ICLR 2024",
        needs=_TRAINED_SEVERAL,
    ),
    Method(
        name="cal",
        aliases=("contrastive-active-learning",),
        target="condense.selection.contrast:Contrast",
        summary="real images that a network sees otherwise than their neighbours",
        paper="Margatina et al., Active Learning by Acquiring Contrastive Examples, EMNLP 2021",
        needs=_TRAINED,
    ),
    Method(
        name="dq",
        aliases=("dataset-quantization",),
        target="condense.selection.quantization:Quantization",
        summary="real images from bins by recursive graph cut, if asked without the patches that no class is seen by",
        paper="Zhou et al., Dataset Quantization, ICCV 2023",
        needs=_TRAINED,
        nested=False,
    ),
    Method(
        name="pca",
        aliases=("prune-combine-augment",),
        target="condense.selection.mosaics:Mosaics",
        summary="mosaics of the easiest real images of each class, for hard labels (details of the paper are open)",
        paper="Xiao et al., Rethinking Large-scale Dataset Compression, arXiv 2502.06434, 2025",
        needs=_TRAINED_SEVERAL,
        protocol="rethink-hard",
    ),
    Method(
        name="facility-location",
        target="condense.selection.facility_location:FacilityLocation",
        summary="real images one of which has a gradient of nearly the direction that any image of its class has",
        paper="Wei, Iyer & Bilmes, Submodularity in Data Subset Selection and Active Learning, ICML 2015",
        needs=_TRAINED,
    ),
    Method(
        name="graph-cut",
        target="condense.selection.graph_cut:GraphCut",
        summary="real images whose gradients are like those of their class and unlike each other",
        paper="Iyer et al., Submodular Combinatorial Information Measures with Applications in Machine Learning, 2021",
        needs=_TRAINED,
    ),
    Method(
        name="craig",
        target="condense.selection.craig:Craig",
        summary="real images near whose gradients those of all others are, weighted by how many that is",
        paper="Mirzasoleiman et al., Coresets for Data-efficient Training of Machine Learning Models, ICML 2020",
        needs=_TRAINED,
    ),
    Method(
        name="gradmatch",
        aliases=("grad-match",),
        target="condense.selection.gradmatch:GradMatch",
        summary="real images with weights that sum to the mean gradient of their class, by matching pursuit",
        paper="Killamsetty et al., GRAD-MATCH: Gradient Matching based Data Subset Selection, ICML 2021",
        needs=_TRAINED,
    ),
    Method(
        name="glister",
        target="condense.selection.glister:Glister",
        summary="real images whose gradients lower the loss on a part of the real images that is set aside",
        paper="Killamsetty et al., GLISTER: Generalization based Data Subset Selection, AAAI 2021",
        needs=_TRAINED,
    ),
)


@cache
def methods() -> Registry[Method]:
    """The built-in methods and those of installed packages; raises `CondenseError` as `with_entry_points` does."""
    return with_entry_points("method", _BUILT_IN, "condense.synthesizers")


@cache
def graph_methods(modality: str) -> Registry[Method]:
    """The methods for `graphs`, or those for `nodes` of one graph; raises `CondenseError` as `methods` does."""
    built_in = [method for method in GRAPH_METHODS if method.modality == modality]
    return with_entry_points(f"method for {modality}", built_in, f"condense.{modality}")


def modalities(name: str) -> list[str]:
    """What the methods of this name, or with this alias, are for: `images`, `graphs`, `nodes`.

    >>> modalities("mirage"), modalities("herding")[:2]
    (['graphs'], ['images', 'graphs'])
    """
    registries = {"images": methods(), "graphs": graph_methods("graphs"), "nodes": graph_methods("nodes")}
    return [modality for modality, registry in registries.items() if plain(name) in registry.known()]


_TRAINING_TIME = (
    Method(
        name="rs2",
        aliases=("repeated-random-sampling",),
        target="condense.baselines.random_rounds:RandomRounds",
        summary="train on a fresh random part of the data in every round",
        paper="Okanovic et al., Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning, ICLR 2024",
    ),
    Method(
        name="pruned",
        target="condense.baselines.pruned:Pruned",
        summary="train on what a method chooses once, the time of choosing counted",
        paper="baseline",
    ),
    Method(
        name="kd-pruned",
        target="condense.baselines.pruned:AdvisedPruned",
        summary="train on what a method chooses once, with the help of a teacher of all the data",
        paper="Distilling the Knowledge in Data Pruning, ICML 2025",
        needs="a teacher (condense teachers)",
        teacher=True,
    ),
)


@cache
def training_time() -> Registry[Method]:
    """The training-time baselines (`condense.baselines`): they train on real images, and no set comes of them."""
    return Registry("training-time baseline", _TRAINING_TIME)


def is_baseline(name: str) -> bool:
    """Whether it is one of the names of a training-time baseline.

    >>> is_baseline("RS2"), is_baseline("dm")
    (True, False)
    """
    return any(plain(name) in (entry.name, *entry.aliases) for entry in training_time())


def find_method(name: str) -> Method:
    """The method that makes or chooses a set, by any of its names.

    Raises `CondenseError` for others, with the way out for a training-time baseline.
    """
    if is_baseline(name):
        known = training_time().find(name).name
        raise CondenseError(
            f"{known} trains without making a set: measure it in a grid (condense benchmark), or by "
            f'condense.evaluate(condense.baseline("{known}", ...))'
        )
    return methods().find(name)
