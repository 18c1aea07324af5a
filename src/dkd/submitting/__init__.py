"""Running pipelines on Kubeflow Pipelines from a terminal: submit, watch, read logs, cancel."""
