"""The step that adds a class to a model, worked out and checked."""

from kfp import dsl

from dkd.components.prepare_extension.component import prepare_extension
from dkd.scenario import form
from dkd.scenario.launch import Launch


@dsl.pipeline(name="dkd-example-prepare-extension")  # type: ignore[untyped-decorator]
def example(model_name: str, data_set_uri: str) -> None:
    """The form with its defaults, but for the model, the new class and its images."""
    known = {"launch": Launch().model_dump(mode="json", exclude_none=True)}
    given = {
        "add_classes": ["sheep"],
        "data_set_uri": data_set_uri,
        "model_name": model_name,
    }
    prepare_extension(
        workflow=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER,
        teacher="",
        memory="",
        settings="{}",
        **{**form.defaults(form.EXTENSION, known), **given},
    )
