from mgmtnode.config.global_config import GlobalConfig

WORD = GlobalConfig("greeting.word", "Hello", "The word that greetings begin with", overridable=("zone",))
