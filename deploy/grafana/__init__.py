"""Grafana's dashboards as code; `make dashboards` writes them to `dashboards/*.json`, which is what Grafana reads.

One module a dashboard; `queries` has the PromQL they share, `panels` the kinds of panels, `board` what is around them.
Their maker is a dependency of the tests (grafana-foundation-sdk): running Outlast needs none of this.
"""
