"""Pictures that libvips does not open: their structure, and their pixels where Pillow decodes them."""
