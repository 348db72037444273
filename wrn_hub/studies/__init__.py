"""The paper's claims as studies: each a TOML file beside this one, which names the nets and what was claimed of them."""
