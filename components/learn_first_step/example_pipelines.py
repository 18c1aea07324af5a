"""A form that is checked, a data set that is indexed, and its first step that is learned."""

from kfp import dsl

from dkd.components.learn_first_step.component import learn_first_step
from dkd.scenario import catalogue, form

SCENARIO = catalogue.scenario("demo", {"variants": {}})


@dsl.pipeline(name="dkd-example-learn-first-step")  # type: ignore[untyped-decorator]
def example(data_set_uri: str) -> None:
    """The form with its defaults, but for the data set."""
    filled = form.defaults(form.INCREMENTAL, SCENARIO.model_dump(mode="json", exclude_none=True))
    learn_first_step(
        scenario=SCENARIO.model_dump_json(),
        workflow=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER,
        **{**filled, "data_set_uri": data_set_uri},
    )
