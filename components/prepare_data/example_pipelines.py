"""A scenario that is checked, and its data set that is indexed, before anything is trained."""

from kfp import dsl

from dkd.components.prepare_data.component import prepare_data
from dkd.scenario import catalogue, form

SCENARIO = catalogue.scenario("demo", {"variants": {}})


@dsl.pipeline(name="dkd-example-prepare-data")  # type: ignore[untyped-decorator]
def example(data_set_uri: str) -> None:
    """The form with its defaults, but for the data set."""
    filled = form.defaults(form.INCREMENTAL, SCENARIO.model_dump(mode="json", exclude_none=True))
    prepare_data(
        scenario=SCENARIO.model_dump_json(),
        workflow=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER,
        **{**filled, "data_set_uri": data_set_uri},
    )
