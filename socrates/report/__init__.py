"""What results folders say, as one page and its pictures: a part a question, in the order in which people ask."""
