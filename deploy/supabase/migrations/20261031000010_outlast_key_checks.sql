-- Outlast: whether a table can be bound as it is named: its owner, its keys, the columns that were named on purpose.

select public.outlast_start_change();

-- Whether no two rows of a table can have the same value in this column: a unique index has only this column, and in a
-- partitioned table those that it is partitioned by.
create or replace function public.outlast_is_unique(p_table regclass, p_column text) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (
    select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attname = p_column
    left join pg_partitioned_table p on p.partrelid = i.indrelid
    where i.indrelid = p_table and i.indisunique and i.indisvalid and i.indpred is null
      and a.attnum = any (i.indkey::int2[]) and not exists (
        select from unnest(i.indkey::int2[]) with ordinality as k (attnum, n)
        where k.n <= i.indnkeyatts and k.attnum <> a.attnum and (k.attnum = any (p.partattrs::int2[])) is not true))
$$;

-- Raises an error, with the option of `outlast init` to correct, if the table is another role's, if several rows could
-- have one id or several owners, if a column that was named does not exist, or if every row would count as deleted.
-- Without a primary key nothing is known about ids. An owner may also be in a view.
create or replace function public.outlast_check_keys(p_binding text) returns void
language plpgsql stable security definer set search_path = '' as $$
declare
  b public.outlast_bindings;
  g record;
  v_owner regclass;
  v_role text;
  v_problem text;
begin
  select * into b from public.outlast_bindings where name = p_binding;
  select * into g from public.outlast_bound(p_binding);
  v_role := (select relowner::regrole::text from pg_class where oid = g.rel and not pg_has_role(relowner, 'usage'));
  if v_role is not null then
    raise exception '% belongs to the role %, so that % cannot add columns and triggers', g.rel, v_role, current_user
      using errcode = 'insufficient_privilege', hint = format('Run first: grant %s to %I; or: alter table %s owner to '
        '%2$I; as a role that may do so.', v_role, current_user, g.rel);
  end if;
  select string_agg(w.key || ' = ' || w.value, ', ') into v_problem from (values
      ('owner', case when b.owner_table is null then nullif(b.owner_column, 'user_id') end),
      ('request_column', nullif(b.request_column, 'request_id')), ('model_column', nullif(b.model_column, 'model'))
    ) as w (key, value)
    where w.value is not null and not exists (
      select from pg_attribute a where a.attrelid = g.rel and a.attname = w.value and not a.attisdropped);
  if v_problem is not null then
    raise exception '% lacks a column: %', g.rel, v_problem using errcode = 'undefined_column',
      hint = 'Add the column, or name another one, or "none": see outlast init --help.';
  end if;
  if exists (select from pg_index where indrelid = g.rel and indisprimary)
    and not public.outlast_is_unique(g.rel, g.id_name)
  then
    raise exception 'several rows of % could have the same %, and would share their files', g.rel, g.id_name
      using errcode = 'invalid_parameter_value',
      hint = 'Name a column that is unique by itself: outlast init --id-column; or add a unique index on this one.';
  end if;
  if b.owner_table is not null then
    v_owner := to_regclass(format('%I.%I', b.owner_schema, b.owner_table));
  end if;
  if (select relkind = 'r' from pg_class where oid = v_owner)
    and not public.outlast_is_unique(v_owner, b.owner_key)
  then
    raise exception 'several rows of % could have the same %, so that a generation would have several owners', v_owner,
      b.owner_key using errcode = 'invalid_parameter_value',
      hint = 'Name a key that is unique there, or a view with one row for each: outlast init --owner.';
  end if;
  if exists (select from pg_attribute where attrelid = g.rel and attname = b.deleted_column and attnotnull
      and public.outlast_type(atttypid) <> 'boolean'::regtype) then
    raise exception 'every row of % counts as deleted, because % is not a boolean and is never null', g.rel,
      b.deleted_column using errcode = 'invalid_parameter_value',
      hint = 'Name a boolean, or a column that is null until the row is deleted: outlast init --deleted-column.';
  end if;
end $$;

revoke all on function public.outlast_is_unique(regclass, text), public.outlast_check_keys(text)
  from public, anon, authenticated, service_role;
