"""What lies in `skylark/` is another project: its tests run where it is installed."""

collect_ignore = ["skylark"]
