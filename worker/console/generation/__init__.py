"""Why a generation has no media: the search, its page with the reasons, previews of its files, fetching it now."""
