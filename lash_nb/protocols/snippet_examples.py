"""Worked examples for small models: what is asked in a notebook, and the one cell that does it.

They speak of made-up variables: a frame `sales` (region, item: text; units, cost: numbers; day: date) and one `shops`
(region, boss), lists `nums`, `names` and `groups` (of lists), a text `s`, a dict `ages`, arrays `grid` (of two
dimensions), `t` and `z`. `snippet_prompt` picks those that resemble a request, and puts live names in their places: so
none of these words may stand for anything else in a request or its code. Data only; pure.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ALWAYS", "EXAMPLES", "Example"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A request and its cell."""

    request: str
    code: str


def _example(request: str, code: str) -> Example:
    return Example(request=request, code=code)


ALWAYS = (
    _example("standard deviation of column units in sales", 'sales["units"].std()'),
    _example("last 5 rows of sales", "sales.tail(5)"),
    _example("largest cost for each region in sales", 'sales.groupby("region")["cost"].max()'),
    _example("sales where cost is less than 2", 'sales[sales["cost"] < 2]'),
    _example("smallest of nums", "min(nums)"),
    _example("s split at commas", 's.split(",")'),
)
"""Shown with every request, first: they teach the form, and being the same they are read once."""

EXAMPLES = (
    # one column
    _example("what is the smallest units in sales", 'sales["units"].min()'),
    _example("total cost of all sales", 'sales["cost"].sum()'),
    _example("the median of units in sales", 'sales["units"].median()'),
    _example("average cost in sales", 'sales["cost"].mean()'),
    _example("highest cost in sales", 'sales["cost"].max()'),
    _example("how many different items are there in sales", 'sales["item"].nunique()'),
    _example("the distinct regions in sales", 'sales["region"].unique()'),
    _example("how many times each region occurs in sales", 'sales["region"].value_counts()'),
    _example("share of each region in sales in percent", 'sales["region"].value_counts(normalize=True) * 100'),
    _example("90th percentile of units in sales", 'sales["units"].quantile(0.9)'),
    _example("correlation of units with cost in sales", 'sales["units"].corr(sales["cost"])'),
    _example("percentage of sales from region north", '(sales["region"] == "north").mean() * 100'),
    _example("what percentage of sales is north", '(sales["region"] == "north").mean() * 100'),
    _example("smallest and largest cost in sales", 'sales["cost"].agg(["min", "max"])'),
    _example("change of cost from row to row in sales", 'sales["cost"].diff()'),
    _example("cost of sales as whole numbers", 'sales["cost"].astype(int)'),
    _example("how many sales have cost above 3", '(sales["cost"] > 3).sum()'),
    _example("running total of units in sales", 'sales["units"].cumsum()'),
    _example("items of sales as a list", 'sales["item"].tolist()'),
    _example("cost in sales rounded to 1 decimal", 'sales["cost"].round(1)'),
    _example("items of sales in lower case", 'sales["item"].str.lower()'),
    _example("number of letters of each item in sales", 'sales["item"].str.len()'),
    # rows
    _example("number of rows in sales", "len(sales)"),
    _example("how many entries does sales have", "len(sales)"),
    _example("count the lines of sales", "len(sales)"),
    _example("how many sales are there", "len(sales)"),
    _example("how many sales are from region north", '(sales["region"] == "north").sum()'),
    _example("number of sales in region south", '(sales["region"] == "south").sum()'),
    _example("number of rows and columns of sales", "sales.shape"),
    _example("sort sales by units, smallest first", 'sales.sort_values("units")'),
    _example("sales ordered by cost descending", 'sales.sort_values("cost", ascending=False)'),
    _example("sort sales by region and item", 'sales.sort_values(["region", "item"])'),
    _example("sort sales by item, then by cost", 'sales.sort_values(["item", "cost"])'),
    _example(
        "sort sales by region and then by units descending",
        'sales.sort_values(["region", "units"], ascending=[True, False])',
    ),
    _example(
        "sort sales by item, then by cost, highest cost first",
        'sales.sort_values(["item", "cost"], ascending=[True, False])',
    ),
    _example("the 4 sales with the highest cost", 'sales.nlargest(4, "cost")'),
    _example("sales sorted by units, top 4", 'sales.sort_values("units", ascending=False).head(4)'),
    _example("top 5 sales by cost", 'sales.nlargest(5, "cost")'),
    _example("bottom 3 of sales by units", 'sales.nsmallest(3, "units")'),
    _example("the 2 rows of sales with the fewest units", 'sales.nsmallest(2, "units")'),
    _example(
        "sales of region north with more than 3 units", 'sales[(sales["region"] == "north") & (sales["units"] > 3)]'
    ),
    _example("sales whose region is south", 'sales[sales["region"] == "south"]'),
    _example("sales with units above 6", 'sales[sales["units"] > 6]'),
    _example("sales with units of at least 4 and cost under 9", 'sales[(sales["units"] >= 4) & (sales["cost"] < 9)]'),
    _example("sales with cost over 8 or units below 2", 'sales[(sales["cost"] > 8) | (sales["units"] < 2)]'),
    _example("sales with units from 2 to 6", 'sales[sales["units"].between(2, 6)]'),
    _example("sales of region north or south", 'sales[sales["region"].isin(["north", "south"])]'),
    _example("sales of item pen or cup", 'sales[sales["item"].isin(["pen", "cup"])]'),
    _example("5 random rows of sales", "sales.sample(5)"),
    _example("every second row of sales", "sales.iloc[::2]"),
    _example("sales that are not from region north", 'sales[sales["region"] != "north"]'),
    _example("sales whose item contains pen", 'sales[sales["item"].str.contains("pen")]'),
    _example("sales whose item begins with the letter c", 'sales[sales["item"].str.startswith("c")]'),
    _example("total units of the sales of region east", 'sales[sales["region"] == "east"]["units"].sum()'),
    _example("the row of sales with the largest cost", 'sales.loc[sales["cost"].idxmax()]'),
    _example("which item has the lowest cost in sales", 'sales.loc[sales["cost"].idxmin(), "item"]'),
    _example("item with the highest cost in sales", 'sales.loc[sales["cost"].idxmax(), "item"]'),
    _example("cost of the sale with the most units", 'sales.loc[sales["units"].idxmax(), "cost"]'),
    _example("the cost of item pen in sales", 'sales.loc[sales["item"] == "pen", "cost"].iloc[0]'),
    _example("average units of the sales of region west", 'sales[sales["region"] == "west"]["units"].mean()'),
    _example("sales without duplicate rows", "sales.drop_duplicates()"),
    _example("sales without duplicate items", 'sales.drop_duplicates("item")'),
    _example("sales without rows that have missing values", "sales.dropna()"),
    _example("drop every row of sales that has missing values", "sales.dropna()"),
    _example("does sales have missing values", "sales.isna().any().any()"),
    _example("sales with missing units filled with 0", 'sales.fillna({"units": 0})'),
    _example(
        "fill missing units in sales with the smallest units",
        'sales["units"] = sales["units"].fillna(sales["units"].min())',
    ),
    _example(
        "fill the empty cost of sales with the median of cost",
        'sales["cost"] = sales["cost"].fillna(sales["cost"].median())',
    ),
    _example("set missing cost to 5 in sales", 'sales["cost"] = sales["cost"].fillna(5)'),
    _example("drop the rows of sales where units is missing", 'sales.dropna(subset=["units"])'),
    _example("percentage of sales with missing cost", 'sales["cost"].isna().mean() * 100'),
    _example("number of missing units in sales", 'sales["units"].isna().sum()'),
    _example("missing values of each column of sales", "sales.isna().sum()"),
    # columns
    _example("names of the columns of sales", "list(sales.columns)"),
    _example("data types of the columns of sales", "sales.dtypes"),
    _example("only the columns item and cost of sales", 'sales[["item", "cost"]]'),
    _example("show item and units of sales only", 'sales[["item", "units"]]'),
    _example("drop column day from sales", 'sales.drop(columns=["day"])'),
    _example("remove units and item from sales", 'sales.drop(columns=["units", "item"])'),
    _example("rename column units to amount in sales", 'sales.rename(columns={"units": "amount"})'),
    _example("add a column half to sales: cost divided by 2", 'sales["half"] = sales["cost"] / 2'),
    _example("add a column gain to sales that is cost minus units", 'sales["gain"] = sales["cost"] - sales["units"]'),
    _example("add a column rate to sales: cost / units * 100", 'sales["rate"] = sales["cost"] / sales["units"] * 100'),
    _example("add column both to sales with units plus cost", 'sales["both"] = sales["units"] + sales["cost"]'),
    _example("cost divided by units for each row of sales", 'sales["cost"] / sales["units"]'),
    _example("cost of sales in percent of the total", 'sales["cost"] / sales["cost"].sum() * 100'),
    _example("average of units and cost for every row of sales", 'sales[["units", "cost"]].mean(axis=1)'),
    _example("convert cost from pounds to kilograms in sales", 'sales["cost"] * 0.453592'),
    _example("the part of item before the dash in sales", 'sales["item"].str.split("-").str[0]'),
    _example("sales whose item ends with er", 'sales[sales["item"].str.endswith("er")]'),
    _example("total of cost divided by total of units in sales", 'sales["cost"].sum() / sales["units"].sum()'),
    _example("add a column month to sales", 'sales["month"] = sales["day"].dt.month'),
    _example("add a column tens to sales: cost rounded down to tens", 'sales["tens"] = sales["cost"] // 10 * 10'),
    _example("summary statistics of sales", "sales.describe()"),
    # groups, joins
    _example("sum of cost per region in sales", 'sales.groupby("region")["cost"].sum()'),
    _example("average units for each item in sales", 'sales.groupby("item")["units"].mean()'),
    _example("average units by region and item in sales", 'sales.groupby(["region", "item"])["units"].mean()'),
    _example(
        "average cost per item in sales, highest first",
        'sales.groupby("item")["cost"].mean().sort_values(ascending=False)',
    ),
    _example("number of sales per region", 'sales.groupby("region").size()'),
    _example("number of different items per region in sales", 'sales.groupby("region")["item"].nunique()'),
    _example(
        "number and mean of cost for each region in sales", 'sales.groupby("region")["cost"].agg(["count", "mean"])'
    ),
    _example("sum of units times cost in sales", '(sales["units"] * sales["cost"]).sum()'),
    _example(
        "total of units times cost for each region in sales",
        '(sales["units"] * sales["cost"]).groupby(sales["region"]).sum()',
    ),
    _example(
        "turnover by item, turnover is cost times units",
        '(sales["cost"] * sales["units"]).groupby(sales["item"]).sum()',
    ),
    _example(
        "which region has the highest total of units * cost in sales",
        '(sales["units"] * sales["cost"]).groupby(sales["region"]).sum().idxmax()',
    ),
    _example(
        "item with the lowest sum of cost times units",
        '(sales["cost"] * sales["units"]).groupby(sales["item"]).sum().idxmin()',
    ),
    _example(
        "sum of units plus cost per region in sales", '(sales["units"] + sales["cost"]).groupby(sales["region"]).sum()'
    ),
    _example("which region has the lowest average cost in sales", 'sales.groupby("region")["cost"].mean().idxmin()'),
    _example("which region has the largest total cost in sales", 'sales.groupby("region")["cost"].sum().idxmax()'),
    _example("which item occurs most often in sales", 'sales["item"].value_counts().idxmax()'),
    _example(
        "table of total units with region as rows and item as columns",
        'sales.pivot_table(index="region", columns="item", values="units", aggfunc="sum")',
    ),
    _example("join sales and shops on region", 'sales.merge(shops, on="region")'),
    # dates
    _example("number of sales in each month", 'sales["day"].dt.month.value_counts().sort_index()'),
    _example("number of sales per year", 'sales["day"].dt.year.value_counts().sort_index()'),
    _example("the weekday name of each day in sales", 'sales["day"].dt.day_name()'),
    _example("number of sales on each weekday", 'sales["day"].dt.day_name().value_counts()'),
    _example("sales after 15 March 2023", 'sales[sales["day"] > "2023-03-15"]'),
    _example("sales before 2022", 'sales[sales["day"] < "2022-01-01"]'),
    _example("sales of the year 2022", 'sales[sales["day"].dt.year == 2022]'),
    _example("sales in June 2022", 'sales[sales["day"].dt.strftime("%Y-%m") == "2022-06"]'),
    _example("year of each day of sales", 'sales["day"].dt.year'),
    _example("total cost per month in sales", 'sales.groupby(sales["day"].dt.month)["cost"].sum()'),
    _example("earliest day in sales", 'sales["day"].min()'),
    # plots
    _example("line plot of z over t", "plt.plot(t, z)"),
    _example("line plot of cost over day in sales", 'plt.plot(sales["day"], sales["cost"])'),
    _example("line chart of units by cost for sales", 'sales.sort_values("cost").plot(x="cost", y="units")'),
    _example("histogram of cost in sales", 'sales["cost"].hist()'),
    _example("scatter plot of units against cost in sales", 'plt.scatter(sales["cost"], sales["units"])'),
    _example("bar chart of total units per region in sales", 'sales.groupby("region")["units"].sum().plot.bar()'),
    _example("bar chart of the number of sales per item", 'sales["item"].value_counts().plot.bar()'),
    _example("box plot of cost in sales", 'sales.boxplot(column="cost")'),
    _example("pie chart of the regions in sales", 'sales["region"].value_counts().plot.pie()'),
    # files
    _example("write sales to the file report.csv", 'sales.to_csv("report.csv", index=False)'),
    _example("read the file prices.csv", 'pd.read_csv("prices.csv")'),
    _example("read prices.csv into stock", 'stock = pd.read_csv("prices.csv")'),
    _example("load visits.csv as df", 'df = pd.read_csv("visits.csv")'),
    # lists
    _example("average of nums", "sum(nums) / len(nums)"),
    _example("the median of nums", "statistics.median(nums)"),
    _example("total of nums", "sum(nums)"),
    _example("the largest of nums", "max(nums)"),
    _example("nums in ascending order", "sorted(nums)"),
    _example("sort nums from high to low", "sorted(nums, reverse=True)"),
    _example("nums in descending order", "sorted(nums, reverse=True)"),
    _example("names in alphabetical order", "sorted(names)"),
    _example("the even numbers in nums", "[n for n in nums if n % 2 == 0]"),
    _example("how many odd numbers does nums have", "sum(n % 2 == 1 for n in nums)"),
    _example("how many of nums are below 4", "sum(n < 4 for n in nums)"),
    _example("nums above 6", "[n for n in nums if n > 6]"),
    _example("double of each of nums that is below 9", "[n * 2 for n in nums if n < 9]"),
    _example("largest minus smallest of nums", "max(nums) - min(nums)"),
    _example("numbers from 5 to 90 that can be divided by 8", "[n for n in range(5, 91) if n % 8 == 0]"),
    _example(
        "list of the numbers from 10 to 99 that are divisible by 11", "[n for n in range(10, 100) if n % 11 == 0]"
    ),
    _example("the whole numbers from 20 to 45", "list(range(20, 46))"),
    _example("odd numbers from 11 to 51", "list(range(11, 52, 2))"),
    _example("multiples of 6 up to 70", "list(range(6, 71, 6))"),
    _example("each of nums plus 10", "[n + 10 for n in nums]"),
    _example("half of each number in nums", "[n / 2 for n in nums]"),
    _example("the cubes of nums", "[n**3 for n in nums]"),
    _example("the 3 largest of nums", "sorted(nums, reverse=True)[:3]"),
    _example("the third smallest of nums", "sorted(nums)[2]"),
    _example("nums without duplicates", "list(dict.fromkeys(nums))"),
    _example("how often 7 occurs in nums", "nums.count(7)"),
    _example("position of 5 in nums", "nums.index(5)"),
    _example("position of anna in names", 'names.index("anna")'),
    _example("names joined with a dash", '"-".join(names)'),
    _example("one text of all names", '"".join(names)'),
    _example("names joined into one text without anything between", '"".join(names)'),
    _example("number of distinct names", "len(set(names))"),
    _example("is anna in names", '"anna" in names'),
    _example("dict of names and their lengths", "{n: len(n) for n in names}"),
    _example("the shortest name in names", "min(names, key=len)"),
    _example("the longest name in names", "max(names, key=len)"),
    _example("names that start with b", '[n for n in names if n.startswith("b")]'),
    _example("names that contain the letter e", '[n for n in names if "e" in n]'),
    _example("names with more than 5 letters", "[n for n in names if len(n) > 5]"),
    _example("how many names have fewer than 6 letters", "sum(len(n) < 6 for n in names)"),
    _example("the names in upper case", "[n.upper() for n in names]"),
    _example("last letter of each name", "[n[-1] for n in names]"),
    _example("lengths of the names", "[len(n) for n in names]"),
    _example("names sorted by length", "sorted(names, key=len)"),
    _example("all items of the lists in groups as one list", "[item for group in groups for item in group]"),
    # texts
    _example("how many letters s has", "len(s)"),
    _example("s in lower case", "s.lower()"),
    _example("first letter of every word of s in upper case", "s.title()"),
    _example("every word of s capitalised", "s.title()"),
    _example("s without blanks", 's.replace(" ", "")'),
    _example("the longest word of s", "max(s.split(), key=len)"),
    _example("how many vowels are in s", 'sum(c in "aeiouAEIOU" for c in s)'),
    _example("s backwards", "s[::-1]"),
    _example("replace dog by bird in s", 's.replace("dog", "bird")'),
    _example("how often the letter e occurs in s", 's.count("e")'),
    _example("how many digits are in s", 'sum(c in "0123456789" for c in s)'),
    _example("the number of words of s", "len(s.split())"),
    _example("list of the words in s", "s.split()"),
    _example("all words of s with 4 letters", 're.findall(r"\\b\\w{4}\\b", s)'),
    _example("the numbers that occur in s", 're.findall(r"\\d+", s)'),
    # dicts
    _example("key of the largest value in ages", "max(ages, key=ages.get)"),
    _example("which key has the lowest value in ages", "min(ages, key=ages.get)"),
    _example("ages sorted by value", "dict(sorted(ages.items(), key=lambda item: item[1]))"),
    _example("ages above 30", "{k: v for k, v in ages.items() if v > 30}"),
    _example("sum of the values of ages", "sum(ages.values())"),
    _example("average of the values of ages", "sum(ages.values()) / len(ages)"),
    _example("the keys of ages", "list(ages)"),
    _example("the value of anna in ages", 'ages["anna"]'),
    # no variable at all
    _example("what is the capital city of Spain", '"Madrid"'),
    _example("15 percent of 80", "80 * 15 / 100"),
    # arrays
    _example("total of grid", "grid.sum()"),
    _example("sum of each row of grid", "grid.sum(axis=1)"),
    _example("largest value of each row of grid", "grid.max(axis=1)"),
    _example("largest value of each column of grid", "grid.max(axis=0)"),
    _example("average of each column of grid", "grid.mean(axis=0)"),
    _example("the second column of grid", "grid[:, 1]"),
    _example("size and shape of grid", "grid.shape"),
    _example("grid transposed", "grid.T"),
    _example("where z is largest", "z.argmax()"),
    _example("variance of z", "z.var()"),
    _example("scalar product of t and z", "t @ z"),
    _example("smallest absolute difference of t and z", "np.abs(t - z).min()"),
)
"""Shown when they resemble the request."""
