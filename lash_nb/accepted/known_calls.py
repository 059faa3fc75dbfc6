"""Names of calls by which `lasting` tells looks from deeds: of Python itself, and of what notebooks use most."""

from __future__ import annotations

__all__ = [
    "ACTING_METHODS",
    "ACTING_MODULES",
    "ALIASES",
    "CHANGING_METHODS",
    "COMPUTING_MODULES",
    "LOOKING",
    "LOOKING_MAGICS",
    "LOOKING_METHODS",
    "LOOKING_OF_ACTING",
    "OF_ITS_OWN",
    "SETTING_MAGICS",
    "SETTING_MODULES",
    "STORING_METHODS",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ALIASES: dict[str, str] = {
    "np": "numpy",
    "pd": "pandas",
    "plt": "matplotlib.pyplot",
    "sns": "seaborn",
    **{name: name for name in ("json", "math", "os", "random", "re", "shutil", "subprocess", "sys", "time")},
}
"""Modules under the names that they have where nobody says otherwise."""

LOOKING = _words(
    "abs all any ascii bin bool bytes callable chr complex dict dir display divmod enumerate filter finish float "
    "format frozenset getattr hasattr hash help hex id int isinstance issubclass iter len list map max min oct ord pow "
    "pprint print range repr reversed round set slice sorted str sum super tuple type vars zip"
)
"""Functions that change nothing, whatever they are given."""

LOOKING_METHODS = _words(
    # of texts, numbers, lists, dicts
    "copy count endswith find format get index is_integer isalpha isdigit isnumeric items join keys lower lstrip "
    "most_common partition replace rpartition rstrip split splitlines startswith strip title upper values zfill "
    # of frames and arrays
    "abs agg aggregate all any apply applymap argmax argmin argsort assign astype between clip columns concat corr cov "
    "cummax cummin cumprod cumsum describe diff div dot drop_duplicates dropna dt dtypes duplicated eq equals eval "
    "explode ffill bfill fillna filter first flatten ge groupby gt head hist idxmax idxmin iloc info interpolate isin "
    "isna isnull iterrows itertuples last le loc lt map max mean median melt memory_usage merge min mode mul ne "
    "nlargest notna notnull nsmallest nunique pct_change pivot pivot_table plot prod quantile query rank ravel reindex "
    "rename resample reset_index reshape rolling round sample select_dtypes set_axis set_index shift size skew "
    "sort_index sort_values squeeze stack std str sub sum swapaxes tail take to_datetime to_dict to_frame to_html "
    "to_list to_markdown to_numeric to_numpy to_period to_string tolist transform transpose unique unstack "
    "value_counts var where "
    # of times, paths and models
    "date day exists glob is_dir is_file isoformat iterdir joinpath predict predict_proba read_bytes read_text resolve "
    "score strftime strptime timestamp total_seconds weekday"
)
"""Methods that change nothing, unless they are told to do so in place."""

CHANGING_METHODS = _words(
    "add append appendleft clear difference_update discard extend extendleft fill fit fit_predict fit_transform insert "
    "intersection_update move_to_end partial_fit pop popitem popleft put read readline readlines remove reverse rotate "
    "seek setdefault setflags shuffle sort subtract symmetric_difference_update update"
)
"""Methods that change what they are called on, and nothing else."""

STORING_METHODS = _words("add append appendleft extend insert put setdefault update")
"""Those after which what they were given is a part of what they are called on."""

OF_ITS_OWN = _words(
    "annotate axhline axvline bar barh boxplot contour errorbar fill_between grid imshow legend pie scatter set "
    "set_title set_xlabel set_xlim set_xticks set_ylabel set_ylim set_yticks subplots suptitle text tick_params "
    "tight_layout twinx"
)
"""Methods that may change what they are called on, and nothing that they are given."""

ACTING_METHODS = _words(
    "chdir chmod commit connect dump execute executemany executescript makedirs mkdir post put_object request rmdir "
    "rmtree save savefig savetxt send symlink_to system to_clipboard to_csv to_excel to_feather to_hdf to_parquet "
    "to_pickle to_sql touch unlink urlretrieve write write_bytes write_html write_image write_text writelines "
    "writerow writerows"
)
"""Methods and functions that do something outside of the values that are there."""

ACTING_MODULES = _words("asyncio ctypes logging os random shutil signal subprocess sys time warnings")
"""Modules whose functions do something outside, but for these:"""
LOOKING_OF_ACTING = _words(
    "asyncio.gather asyncio.run asyncio.sleep os.cpu_count os.environ.get os.fspath os.getcwd os.getenv os.listdir "
    "os.scandir os.stat os.walk sys.getsizeof time.monotonic time.perf_counter time.sleep time.time time.strftime "
    "logging.getLogger"
)

SETTING_MODULES = _words("random sys warnings")
"""Those of them whose deeds end with the process."""
COMPUTING_MODULES = _words(
    "base64 bisect calendar collections copy dataclasses datetime decimal difflib enum fractions functools glob "
    "hashlib heapq io itertools json math matplotlib numpy operator pandas pathlib polars pprint re scipy seaborn "
    "sklearn statistics statsmodels string textwrap time typing uuid zoneinfo"
)
"""Modules whose functions leave nothing that stays when the process is gone, unless their names say so."""

SETTING_MAGICS = _words("alias autoreload cd colors config env load_ext matplotlib precision pylab set_env")
"""First words of magics that set something of the process."""
LOOKING_MAGICS = _words(
    "cat df du find grep head ls pip-list pwd tail uname wc which who who_ls pinfo pinfo2 psource pdoc"
)
"""First words of magics and shell commands that only show something."""
