"""Grafana dashboards as code. `make dashboards` writes them to `dashboards/*.json`, which Grafana reads.

There is one module per dashboard. `queries` has PromQL that several panels use, `panels` the kinds of panels, and
`dashboard` the parts that all dashboards have in common. grafana-foundation-sdk is a dependency of the tests only.
"""
