import math

import pytest
from pydantic import ValidationError

from sparsity_lab.laws.forms.named import form_names
from sparsity_lab.specs.choices import LAW_FORMS
from sparsity_lab.specs.studies import LawSpec


def test_every_form_can_be_named_in_a_study():
    assert form_names() == LAW_FORMS
    assert LawSpec(forms=LAW_FORMS).forms == LAW_FORMS


def test_least_squares_is_spelt_out():
    law = LawSpec.model_validate({"delta": "least-squares"})
    assert law.threshold == math.inf
    assert LawSpec().threshold == 1e-3
    assert LawSpec.model_validate_json(law.model_dump_json()) == law


@pytest.mark.parametrize("delta", [0, -1.0, float("inf"), "huge"])
def test_other_thresholds_are_refused(delta):
    with pytest.raises(ValidationError, match="delta"):
        LawSpec.model_validate({"delta": delta})


@pytest.mark.parametrize("wrong", [{"forms": ["kaplan"]}, {"holdouts": ["largest-data", "largest-data"]}])
def test_forms_and_holdouts_are_checked(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        LawSpec.model_validate(wrong)
